// A function app on an Elastic Premium plan that it shares with others.

@description('Name of the app; unique in the world.')
param name string

@description('Region of the app.')
param location string

@description('Tags of the app.')
param tags object

@description('Name by which azd finds the app.')
param serviceName string

@description('Resource id of the plan.')
param planId string

@description('Resource id of the identity that the app runs under.')
param identityId string

@description('URI of the blob service that keeps the deployed package, ending in a slash.')
param blobServiceUri string

@description('App settings.')
param settings object

@description('Instances that are there at any time.')
@minValue(1)
@maxValue(20)
param minimumInstanceCount int

@description('Instances at most.')
@minValue(1)
@maxValue(100)
param maximumInstanceCount int

// The package is read from its blob by the identity. The usual file share would want an account's key.
var platform = {
  FUNCTIONS_EXTENSION_VERSION: '~4'
  FUNCTIONS_WORKER_RUNTIME: 'custom'
  WEBSITE_RUN_FROM_PACKAGE: '${blobServiceUri}packages/${serviceName}.zip'
  WEBSITE_RUN_FROM_PACKAGE_BLOB_MI_RESOURCE_ID: identityId
}

resource app 'Microsoft.Web/sites@2024-04-01' = {
  name: name
  location: location
  tags: union(tags, {
    'azd-service-name': serviceName
  })
  kind: 'functionapp,linux'
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: {
      '${identityId}': {}
    }
  }
  properties: {
    serverFarmId: planId
    reserved: true
    httpsOnly: true
    keyVaultReferenceIdentity: identityId
    siteConfig: {
      linuxFxVersion: ''
      appSettings: [
        for setting in items(union(platform, settings)): {
          name: setting.key
          value: setting.value
        }
      ]
      minimumElasticInstanceCount: minimumInstanceCount
      functionAppScaleLimit: maximumInstanceCount
      functionsRuntimeScaleMonitoringEnabled: true
      minTlsVersion: '1.2'
      ftpsState: 'Disabled'
    }
  }
}

// Nothing is sent to the app itself, so nobody needs a password for it.
resource noPassword 'Microsoft.Web/sites/basicPublishingCredentialsPolicies@2024-04-01' = [
  for protocol in ['ftp', 'scm']: {
    parent: app
    name: protocol
    properties: {
      allow: false
    }
  }
]

@description('Name of the app.')
output name string = app.name

@description('Where the app is reached.')
output uri string = 'https://${app.properties.defaultHostName}'
