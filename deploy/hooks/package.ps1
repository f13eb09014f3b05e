# Builds the function apps of what is drained into deploy/dist, with a package of each.
$ErrorActionPreference = 'Stop'
Set-Location (Join-Path $PSScriptRoot '../..')
$source = if ($env:PERSISTOR_SOURCE) { $env:PERSISTOR_SOURCE } else { 'eventhub' }
go run ./cmd/persistor generate -f "deploy/apps/$source.json" -o deploy/dist --zip
exit $LASTEXITCODE
