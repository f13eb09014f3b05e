// Persistor on Elastic Premium: instances that are always warm, reach into virtual networks, and are paid
// for by the hour. The same parts as on Flex Consumption, on one plan. docs/deploy.md goes through it.
//
//   az deployment group create -g GROUP -f deploy/premium/main.bicep -p namespaceName=NAMESPACE entityName=HUB

@description('Name that all resources begin with.')
@minLength(3)
@maxLength(10)
param name string = 'persistor'

@description('Region of the resources; best that of the namespace.')
param location string = resourceGroup().location

@description('Name of the azd environment; empty without azd.')
param environmentName string = ''

@description('How messages come: pulled by an invoker and its workers, or pushed by a trigger.')
@allowed([
  'pull'
  'push'
])
param approach string = 'pull'

@description('What is drained. Event Grid can only push.')
@allowed([
  'eventhub'
  'servicebus'
  'eventgrid'
])
param source string = 'eventhub'

@description('Name of the Event Hubs or Service Bus namespace, without its domain; empty for Event Grid.')
@maxLength(50)
param namespaceName string = ''

@description('Resource group of the namespace; empty for the one that is deployed to.')
param namespaceResourceGroup string = ''

@description('Name of the Event Hub, the queue or the topic; empty for Event Grid.')
param entityName string = ''

@description('Consumer group of the Event Hub; best one for Persistor alone.')
param consumerGroup string = '$Default'

@description('Subscription of the topic; empty for a queue.')
param subscriptionName string = ''

@description('Whether the queue or subscription requires sessions.')
param sessions bool = false

@description('Whether the apps may manage the queue or topic, so that the invoker can read how many messages wait. Without it say units, unless there are sessions.')
param manage bool = true

@description('How many units a run has whose call doesn\'t say it; 0 leaves it to the backlog.')
@minValue(0)
@maxValue(1024)
param units int = 0

@description('When the invoker starts a run by itself: an NCRONTAB expression of six fields, in UTC.')
param schedule string = '0 */5 * * * *'

@description('Whether records keep the messages\' properties.')
param metadata bool = false

@description('Object id of who deploys: may write the secret that connects the invoker to its worker, and packages. Empty: nobody but owners.')
param deployerPrincipalId string = ''

@description('Whether there is telemetry in Application Insights.')
param monitoring bool = true

@description('Size of the plan\'s instances.')
@allowed([
  'EP1'
  'EP2'
  'EP3'
])
param sku string = 'EP1'

@description('Instances that are there, and paid for, at any time.')
@minValue(1)
@maxValue(20)
param minimumInstanceCount int = 1

@description('Workers at most, each with one work unit at a time.')
@minValue(1)
@maxValue(100)
param maximumInstanceCount int = 10

var tags = empty(environmentName)
  ? {}
  : {
      'azd-env-name': environmentName
    }

// What is deployed: the pair that pulls, or the one app that is pushed to.
var pulls = approach == 'pull'

module foundation '../modules/foundation.bicep' = {
  name: 'foundation'
  params: {
    name: name
    location: location
    tags: tags
    deployerPrincipalId: deployerPrincipalId
    monitoring: monitoring
  }
}

module receiver '../modules/receiver.bicep' = if (source != 'eventgrid') {
  name: 'receiver'
  scope: resourceGroup(empty(namespaceResourceGroup) ? resourceGroup().name : namespaceResourceGroup)
  params: {
    source: source == 'eventhub' ? 'eventhub' : 'servicebus'
    namespaceName: namespaceName
    entityName: entityName
    topic: !empty(subscriptionName)
    principalId: foundation.outputs.identityPrincipalId
    manage: manage && pulls
  }
}

module settings '../modules/settings.bicep' = {
  name: 'settings'
  params: {
    source: source
    namespaceName: namespaceName
    entityName: entityName
    consumerGroup: consumerGroup
    subscriptionName: subscriptionName
    sessions: sessions
    units: units
    schedule: schedule
    metadata: metadata
    identityClientId: foundation.outputs.identityClientId
    storageAccountName: foundation.outputs.storageAccountName
    blobServiceUri: foundation.outputs.blobServiceUri
    queueServiceUri: foundation.outputs.queueServiceUri
    queueName: foundation.outputs.queueName
    backfillQueueName: foundation.outputs.backfillQueueName
    vaultName: foundation.outputs.vaultName
    insightsConnectionString: foundation.outputs.insightsConnectionString
  }
}

resource plan 'Microsoft.Web/serverfarms@2024-04-01' = {
  name: name
  location: location
  tags: tags
  kind: 'elastic'
  sku: {
    tier: 'ElasticPremium'
    name: sku
  }
  properties: {
    reserved: true
    maximumElasticWorkerCount: maximumInstanceCount
  }
}

// host.json lets one call at a time into an instance of the worker: a unit has its cores to itself.
module worker 'app.bicep' = if (pulls) {
  name: 'worker'
  params: {
    name: '${name}-worker-${foundation.outputs.suffix}'
    location: location
    tags: tags
    serviceName: 'worker'
    planId: plan.id
    identityId: foundation.outputs.identityId
    blobServiceUri: foundation.outputs.blobServiceUri
    settings: settings.outputs.worker
    minimumInstanceCount: minimumInstanceCount
    maximumInstanceCount: maximumInstanceCount
  }
}

// One invoker does: it plans and waits, and runs are one at a time.
module invoker 'app.bicep' = if (pulls) {
  name: 'invoker'
  params: {
    name: '${name}-invoker-${foundation.outputs.suffix}'
    location: location
    tags: tags
    serviceName: 'invoker'
    planId: plan.id
    identityId: foundation.outputs.identityId
    blobServiceUri: foundation.outputs.blobServiceUri
    settings: settings.outputs.invoker
    minimumInstanceCount: 1
    maximumInstanceCount: 1
  }
}

module push 'app.bicep' = if (!pulls) {
  name: 'push'
  params: {
    name: '${name}-push-${foundation.outputs.suffix}'
    location: location
    tags: tags
    serviceName: 'push'
    planId: plan.id
    identityId: foundation.outputs.identityId
    blobServiceUri: foundation.outputs.blobServiceUri
    settings: settings.outputs.push
    minimumInstanceCount: minimumInstanceCount
    maximumInstanceCount: maximumInstanceCount
  }
}

@description('Name of the app that starts runs; empty for push.')
output INVOKER_NAME string = pulls ? invoker!.outputs.name : ''

@description('Where a run is started, with a key of the invoker in the header x-functions-key; empty for push.')
output INVOKER_URL string = pulls ? '${invoker!.outputs.uri}/api/invoke' : ''

@description('Name of the worker; empty for push.')
output WORKER_NAME string = pulls ? worker!.outputs.name : ''

@description('The worker\'s function, without its key; empty for push.')
output WORKER_URL string = pulls ? '${worker!.outputs.uri}/api/pull' : ''

@description('Name of the app that messages are pushed to; empty for pull.')
output PUSH_NAME string = pulls ? '' : push!.outputs.name

@description('Name of the storage account: packages, blobs and checkpoints.')
output STORAGE_NAME string = foundation.outputs.storageAccountName

@description('Name of the vault.')
output VAULT_NAME string = foundation.outputs.vaultName
