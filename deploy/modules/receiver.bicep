// Lets an identity receive from one Event Hub, or from one queue or topic of Service Bus. It is a module
// because the namespace is there already, mostly in another resource group.

@description('What is drained.')
@allowed([
  'eventhub'
  'servicebus'
])
param source string

@description('Name of the namespace, without its domain.')
param namespaceName string

@description('Name of the Event Hub, the queue or the topic.')
param entityName string

@description('Whether the entity is a topic, of which a subscription is drained.')
param topic bool

@description('Object id of the identity.')
param principalId string

@description('Whether the identity may manage the queue or topic: the invoker then reads how many messages wait, and chooses the number of units.')
param manage bool

var roles = {
  eventHubsDataReceiver: 'a638d3c7-ab3a-418d-83e6-5f17a39d4fde'
  serviceBusDataReceiver: '4f6d3b9b-027b-4f4c-9142-0e5a2a2247e0'
  serviceBusDataOwner: '090c5cfd-751d-490a-894a-3ce6f1109419'
}

var serviceBusRole = manage ? roles.serviceBusDataOwner : roles.serviceBusDataReceiver

resource eventHubNamespace 'Microsoft.EventHub/namespaces@2024-01-01' existing = if (source == 'eventhub') {
  name: namespaceName
}

resource eventHub 'Microsoft.EventHub/namespaces/eventhubs@2024-01-01' existing = if (source == 'eventhub') {
  parent: eventHubNamespace
  name: entityName
}

resource serviceBusNamespace 'Microsoft.ServiceBus/namespaces@2022-10-01-preview' existing = if (source == 'servicebus') {
  name: namespaceName
}

resource queue 'Microsoft.ServiceBus/namespaces/queues@2022-10-01-preview' existing = if (source == 'servicebus' && !topic) {
  parent: serviceBusNamespace
  name: entityName
}

resource serviceBusTopic 'Microsoft.ServiceBus/namespaces/topics@2022-10-01-preview' existing = if (source == 'servicebus' && topic) {
  parent: serviceBusNamespace
  name: entityName
}

resource receivesFromHub 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (source == 'eventhub') {
  scope: eventHub
  name: guid(resourceGroup().id, namespaceName, entityName, principalId, roles.eventHubsDataReceiver)
  properties: {
    principalId: principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.eventHubsDataReceiver)
  }
}

resource receivesFromQueue 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (source == 'servicebus' && !topic) {
  scope: queue
  name: guid(resourceGroup().id, namespaceName, entityName, principalId, serviceBusRole)
  properties: {
    principalId: principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', serviceBusRole)
  }
}

resource receivesFromTopic 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (source == 'servicebus' && topic) {
  scope: serviceBusTopic
  name: guid(resourceGroup().id, namespaceName, entityName, principalId, serviceBusRole)
  properties: {
    principalId: principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', serviceBusRole)
  }
}
