// What both plans stand on: an identity, storage with its containers and its queue, a vault, optionally
// telemetry, and the roles that tie them together. There are no keys: storage refuses them.

@description('Name that all resources begin with.')
param name string

@description('Region of the resources.')
param location string

@description('Tags of every resource.')
param tags object

@description('Object id of who deploys: may write the secret that connects the invoker to its worker. Empty: nobody but the vault\'s owners.')
param deployerPrincipalId string

@description('Whether there is telemetry in Application Insights.')
param monitoring bool

var suffix = uniqueString(resourceGroup().id, name)

// The ids of Azure's own roles are the same in every subscription.
var roles = {
  storageBlobDataOwner: 'b7e6dc6d-f1e8-4753-8033-0f276bb0955b'
  storageQueueDataContributor: '974c5e8b-45b9-4653-ba55-5f855dd0fb88'
  storageTableDataContributor: '0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3'
  keyVaultSecretsUser: '4633458b-17de-408a-b874-0445c86b69e6'
  keyVaultSecretsOfficer: 'b86a8fe4-44ce-4948-aee5-eccb2c155cd7'
  monitoringMetricsPublisher: '3913510d-42f4-4e42-8a64-420c390055eb'
}

// Owner, not Contributor: the Functions host takes leases on blobs and sets up containers of its own.
// Queues are for the invoker's queue trigger, tables for the host's diagnostic events.
var storageRoles = [
  roles.storageBlobDataOwner
  roles.storageQueueDataContributor
  roles.storageTableDataContributor
]

var containers = [
  'packages'
  'blobs'
  'checkpoints'
]

resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2023-01-31' = {
  name: '${name}-${suffix}'
  location: location
  tags: tags
}

resource storage 'Microsoft.Storage/storageAccounts@2023-05-01' = {
  name: toLower(replace('${name}${suffix}', '-', ''))
  location: location
  tags: tags
  sku: {
    name: 'Standard_LRS'
  }
  kind: 'StorageV2'
  properties: {
    allowBlobPublicAccess: false
    allowSharedKeyAccess: false
    defaultToOAuthAuthentication: true
    minimumTlsVersion: 'TLS1_2'
    supportsHttpsTrafficOnly: true
  }
}

resource blobService 'Microsoft.Storage/storageAccounts/blobServices@2023-05-01' = {
  parent: storage
  name: 'default'
}

resource container 'Microsoft.Storage/storageAccounts/blobServices/containers@2023-05-01' = [
  for containerName in containers: {
    parent: blobService
    name: containerName
  }
]

resource queueService 'Microsoft.Storage/storageAccounts/queueServices@2023-05-01' = {
  parent: storage
  name: 'default'
}

resource queue 'Microsoft.Storage/storageAccounts/queueServices/queues@2023-05-01' = {
  parent: queueService
  name: 'persistor-runs'
}

resource backfillQueue 'Microsoft.Storage/storageAccounts/queueServices/queues@2023-05-01' = {
  parent: queueService
  name: 'persistor-backfill'
}

resource storageRole 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for role in storageRoles: {
    scope: storage
    name: guid(storage.id, identity.id, role)
    properties: {
      principalId: identity.properties.principalId
      principalType: 'ServicePrincipal'
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', role)
    }
  }
]

resource vault 'Microsoft.KeyVault/vaults@2023-07-01' = {
  name: '${name}-${suffix}'
  location: location
  tags: tags
  properties: {
    enableRbacAuthorization: true
    enableSoftDelete: true
    sku: {
      family: 'A'
      name: 'standard'
    }
    softDeleteRetentionInDays: 7
    tenantId: subscription().tenantId
  }
}

resource appReadsSecrets 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: vault
  name: guid(vault.id, identity.id, roles.keyVaultSecretsUser)
  properties: {
    principalId: identity.properties.principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.keyVaultSecretsUser)
  }
}

resource deployerWritesSecrets 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (!empty(deployerPrincipalId)) {
  scope: vault
  name: guid(vault.id, deployerPrincipalId, roles.keyVaultSecretsOfficer)
  properties: {
    principalId: deployerPrincipalId
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.keyVaultSecretsOfficer)
  }
}

// So that a deployment from one's own machine can upload a package (Premium reads it from there).
resource deployerWritesBlobs 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (!empty(deployerPrincipalId)) {
  scope: storage
  name: guid(storage.id, deployerPrincipalId, roles.storageBlobDataOwner)
  properties: {
    principalId: deployerPrincipalId
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.storageBlobDataOwner)
  }
}

resource workspace 'Microsoft.OperationalInsights/workspaces@2023-09-01' = if (monitoring) {
  name: '${name}-${suffix}'
  location: location
  tags: tags
  properties: {
    retentionInDays: 30
    sku: {
      name: 'PerGB2018'
    }
  }
}

resource insights 'Microsoft.Insights/components@2020-02-02' = if (monitoring) {
  name: '${name}-${suffix}'
  location: location
  tags: tags
  kind: 'web'
  properties: {
    Application_Type: 'web'
    DisableLocalAuth: true
    WorkspaceResourceId: workspace.id
  }
}

resource appSendsTelemetry 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (monitoring) {
  scope: insights
  name: guid(resourceGroup().id, identity.id, roles.monitoringMetricsPublisher)
  properties: {
    principalId: identity.properties.principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.monitoringMetricsPublisher)
  }
}

@description('What every app is named after; unique in the world.')
output suffix string = suffix

@description('Resource id of the identity that the apps run under.')
output identityId string = identity.id

@description('Client id of that identity.')
output identityClientId string = identity.properties.clientId

@description('Object id of that identity, which roles are assigned to.')
output identityPrincipalId string = identity.properties.principalId

@description('Name of the storage account.')
output storageAccountName string = storage.name

@description('URI of its blob service, ending in a slash.')
output blobServiceUri string = storage.properties.primaryEndpoints.blob

@description('URI of its queue service, ending in a slash.')
output queueServiceUri string = storage.properties.primaryEndpoints.queue

@description('Name of the queue that starts runs.')
output queueName string = queue.name

@description('Name of the queue by which a backfill goes on from wave to wave.')
output backfillQueueName string = backfillQueue.name

@description('Name of the vault.')
output vaultName string = vault.name

@description('Where telemetry goes; empty without. It is an address: sending takes the identity.')
output insightsConnectionString string = monitoring ? insights!.properties.ConnectionString : ''
