# Puts the worker's URL, with the key that its host asks for, into the vault where the invoker reads it.
# The key is neither printed nor an argument.
# Needs AZURE_RESOURCE_GROUP, and of the deployment's outputs WORKER_NAME, WORKER_URL, INVOKER_NAME and VAULT_NAME.
$ErrorActionPreference = 'Stop'
$key = az functionapp keys list --resource-group $env:AZURE_RESOURCE_GROUP --name $env:WORKER_NAME --query functionKeys.default --output tsv
if ($LASTEXITCODE -ne 0) { exit $LASTEXITCODE }
if (-not $key) { throw "connect: $env:WORKER_NAME has no function key yet: wait until it has started, and run this again" }
$file = New-TemporaryFile
try {
    [IO.File]::WriteAllText($file, "$($env:WORKER_URL)?code=$key")
    az keyvault secret set --vault-name $env:VAULT_NAME --name func-to-invoke --file $file --encoding utf-8 --output none
    if ($LASTEXITCODE -ne 0) { exit $LASTEXITCODE }
} finally {
    Remove-Item $file
}
az functionapp restart --resource-group $env:AZURE_RESOURCE_GROUP --name $env:INVOKER_NAME
exit $LASTEXITCODE
