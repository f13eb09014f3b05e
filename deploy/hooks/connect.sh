#!/bin/sh
# Puts the worker's URL, with the key that its host asks for, into the vault where the invoker reads it.
# The key passes from one command to the next, and is neither printed nor an argument.
# Needs AZURE_RESOURCE_GROUP, and of the deployment's outputs WORKER_NAME, WORKER_URL, INVOKER_NAME and VAULT_NAME.
set -eu
key=$(az functionapp keys list --resource-group "$AZURE_RESOURCE_GROUP" --name "$WORKER_NAME" --query functionKeys.default --output tsv)
if [ -z "$key" ]; then
    echo "connect: $WORKER_NAME has no function key yet: wait until it has started, and run this again" >&2
    exit 1
fi
printf '%s?code=%s' "$WORKER_URL" "$key" |
    az keyvault secret set --vault-name "$VAULT_NAME" --name func-to-invoke --file /dev/stdin --encoding utf-8 --output none
az functionapp restart --resource-group "$AZURE_RESOURCE_GROUP" --name "$INVOKER_NAME"
