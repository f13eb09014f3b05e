#!/bin/sh
# Builds the function apps of what is drained into deploy/dist, with a package of each.
set -eu
cd "$(dirname "$0")/../.."
go run ./cmd/persistor generate -f "deploy/apps/${PERSISTOR_SOURCE:-eventhub}.json" -o deploy/dist --zip
