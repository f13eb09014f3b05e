// A function app on a Flex Consumption plan of its own: there is one app to a plan.

@description('Name of the app and of its plan; unique in the world.')
param name string

@description('Region of the app.')
param location string

@description('Tags of the app and its plan.')
param tags object

@description('Name by which azd finds the app.')
param serviceName string

@description('Resource id of the identity that the app runs under.')
param identityId string

@description('URI of the blob service that keeps the deployed package, ending in a slash.')
param blobServiceUri string

@description('App settings.')
param settings object

@description('Memory of an instance in MB; its cores come with it.')
@allowed([
  512
  2048
  4096
])
param instanceMemoryMB int

@description('Instances at most.')
@minValue(1)
@maxValue(1000)
param maximumInstanceCount int

@description('HTTP calls that an instance takes at once; 0 leaves it to the platform.')
@minValue(0)
@maxValue(1000)
param perInstanceConcurrency int

var scale = {
  instanceMemoryMB: instanceMemoryMB
  maximumInstanceCount: maximumInstanceCount
}

var triggers = perInstanceConcurrency == 0
  ? {}
  : {
      triggers: {
        http: {
          perInstanceConcurrency: perInstanceConcurrency
        }
      }
    }

resource plan 'Microsoft.Web/serverfarms@2024-04-01' = {
  name: name
  location: location
  tags: tags
  kind: 'functionapp'
  sku: {
    tier: 'FlexConsumption'
    name: 'FC1'
  }
  properties: {
    reserved: true
  }
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
    serverFarmId: plan.id
    httpsOnly: true
    keyVaultReferenceIdentity: identityId
    functionAppConfig: {
      deployment: {
        storage: {
          type: 'blobContainer'
          value: '${blobServiceUri}packages'
          authentication: {
            type: 'UserAssignedIdentity'
            userAssignedIdentityResourceId: identityId
          }
        }
      }
      // A wrong version is accepted here, and the app then doesn't start.
      runtime: {
        name: 'custom'
        version: '1.0'
      }
      scaleAndConcurrency: union(scale, triggers)
    }
    siteConfig: {
      appSettings: [
        for setting in items(settings): {
          name: setting.key
          value: setting.value
        }
      ]
      minTlsVersion: '1.2'
    }
  }
}

// The package is sent as its deployer, not with a password.
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
