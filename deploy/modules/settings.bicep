// The app settings of the programs, from what is drained. There are no resources here, and no secrets:
// every connection is an address and the identity that opens it. docs/settings.md says what each means.

@description('What is drained: eventhub, servicebus or, pushed, eventgrid.')
param source string

@description('Name of the namespace, without its domain; empty for Event Grid.')
param namespaceName string

@description('Name of the Event Hub, the queue or the topic; empty for Event Grid.')
param entityName string

@description('Consumer group of the Event Hub.')
param consumerGroup string

@description('Subscription of the topic; empty for a queue.')
param subscriptionName string

@description('Whether the queue or subscription requires sessions.')
param sessions bool

@description('How many units a run has whose call doesn\'t say it; 0 leaves it to the backlog.')
param units int

@description('When the invoker starts a run by itself: an NCRONTAB expression of six fields, in UTC.')
param schedule string

@description('Whether records keep the messages\' properties.')
param metadata bool

@description('Client id of the identity that the apps run under.')
param identityClientId string

@description('Name of the storage account.')
param storageAccountName string

@description('URI of its blob service.')
param blobServiceUri string

@description('URI of its queue service.')
param queueServiceUri string

@description('Name of the queue that starts runs.')
param queueName string

@description('Name of the queue by which a backfill goes on from wave to wave.')
param backfillQueueName string

@description('Name of the vault that holds the worker\'s URL with its key.')
param vaultName string

@description('Where telemetry goes; empty without.')
param insightsConnectionString string

var namespaceHost = '${namespaceName}.servicebus.windows.net'
var topic = !empty(subscriptionName)

// What the Functions host itself needs.
var host = union(
  {
    AzureWebJobsStorage__accountName: storageAccountName
    AzureWebJobsStorage__credential: 'managedidentity'
    AzureWebJobsStorage__clientId: identityClientId
  },
  empty(insightsConnectionString)
    ? {}
    : {
        APPLICATIONINSIGHTS_CONNECTION_STRING: insightsConnectionString
        APPLICATIONINSIGHTS_AUTHENTICATION_STRING: 'ClientId=${identityClientId};Authorization=AAD'
      }
)

var storage = {
  PERSISTOR_STORAGE_CONNECTION_STRING__blobServiceUri: blobServiceUri
  PERSISTOR_STORAGE_CONNECTION_STRING__credential: 'managedidentity'
  PERSISTOR_STORAGE_CONNECTION_STRING__clientId: identityClientId
}

var eventHubPull = {
  SERVICE_TYPE: 'EVENT_HUB_PULL'
  EVENT_HUB_CONN_STRING__fullyQualifiedNamespace: namespaceHost
  EVENT_HUB_CONN_STRING__credential: 'managedidentity'
  EVENT_HUB_CONN_STRING__clientId: identityClientId
  EVENT_HUB_NAME: entityName
  EVENT_HUB_CONSUMER_GROUP: consumerGroup
  EVENT_HUB_CHECKPOINT_CONTAINER: 'checkpoints'
}

var serviceBusPull = union(
  {
    SERVICE_TYPE: 'SERVICE_BUS_PULL'
    SERVICE_BUS_CONNECTION_STRING__fullyQualifiedNamespace: namespaceHost
    SERVICE_BUS_CONNECTION_STRING__credential: 'managedidentity'
    SERVICE_BUS_CONNECTION_STRING__clientId: identityClientId
    SERVICE_BUS_SESSIONS: sessions ? 'TRUE' : 'FALSE'
  },
  topic
    ? {
        SERVICE_BUS_TYPE: 'TOPIC'
        SERVICE_BUS_TOPIC_NAME: entityName
        SERVICE_BUS_SUB_NAME: subscriptionName
      }
    : {
        SERVICE_BUS_TYPE: 'QUEUE'
        SERVICE_BUS_QUEUE_NAME: entityName
      }
)

var pull = source == 'eventhub' ? eventHubPull : serviceBusPull

var eventHubPush = {
  BINDING_SERVICE: 'EVENT_HUB'
  EVENT_HUB_BINDING_CONNECTION_STR__fullyQualifiedNamespace: namespaceHost
  EVENT_HUB_BINDING_CONNECTION_STR__credential: 'managedidentity'
  EVENT_HUB_BINDING_CONNECTION_STR__clientId: identityClientId
  EVENT_HUB_NAME_BINDING: entityName
  CONSUMER_GROUP: consumerGroup
}

var serviceBusPush = union(
  {
    BINDING_SERVICE: 'SERVICE_BUS'
    SERVICE_BUS_BINDING_CONNECTION_STRING__fullyQualifiedNamespace: namespaceHost
    SERVICE_BUS_BINDING_CONNECTION_STRING__credential: 'managedidentity'
    SERVICE_BUS_BINDING_CONNECTION_STRING__clientId: identityClientId
  },
  topic
    ? {
        SERVICE_BUS_BINDING_TOPIC_NAME: entityName
        SERVICE_BUS_BINDING_SUB_NAME: subscriptionName
      }
    : {
        SERVICE_BUS_BINDING_QUEUE_NAME: entityName
      }
)

var eventGridPush = {
  BINDING_SERVICE: 'EVENT_GRID'
}

var records = {
  PERSISTOR_CONTAINER_NAME: 'blobs'
  GET_METADATA: metadata ? 'TRUE' : 'FALSE'
}

@description('App settings of the worker.')
output worker object = union(host, storage, records, pull)

// The container is where the lock lies that keeps runs from each other.
@description('App settings of the invoker. The worker\'s URL and key are a secret of the vault.')
output invoker object = union(host, storage, pull, {
  PERSISTOR_CONTAINER_NAME: 'blobs'
  FUNC_TO_INVOKE: '@Microsoft.KeyVault(VaultName=${vaultName};SecretName=func-to-invoke)'
  INVOKER_UNITS: units == 0 ? '' : string(units)
  PERSISTOR_SCHEDULE: schedule
  PERSISTOR_QUEUE: queueName
  PERSISTOR_BACKFILL_QUEUE: backfillQueueName
  PERSISTOR_STORAGE_CONNECTION_STRING__queueServiceUri: queueServiceUri
})

@description('App settings of an app that messages are pushed to.')
output push object = union(
  host,
  storage,
  records,
  {
    SERVICE_TYPE: 'BINDING'
  },
  source == 'eventhub' ? eventHubPush : source == 'servicebus' ? serviceBusPush : eventGridPush
)
