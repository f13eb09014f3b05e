// The parameters from the environment: azd env set NAME VALUE, or export NAME=VALUE before az.
using 'main.bicep'

param environmentName = readEnvironmentVariable('AZURE_ENV_NAME', '')
param location = readEnvironmentVariable('AZURE_LOCATION')
param deployerPrincipalId = readEnvironmentVariable('AZURE_PRINCIPAL_ID', '')
param source = readEnvironmentVariable('PERSISTOR_SOURCE', 'eventhub')
param namespaceName = readEnvironmentVariable('PERSISTOR_NAMESPACE')
param namespaceResourceGroup = readEnvironmentVariable('PERSISTOR_NAMESPACE_GROUP', '')
param entityName = readEnvironmentVariable('PERSISTOR_ENTITY')
param consumerGroup = readEnvironmentVariable('PERSISTOR_CONSUMER_GROUP', '$Default')
param subscriptionName = readEnvironmentVariable('PERSISTOR_SUBSCRIPTION', '')
param sessions = bool(readEnvironmentVariable('PERSISTOR_SESSIONS', 'false'))
param manage = bool(readEnvironmentVariable('PERSISTOR_MANAGE', 'true'))
param units = int(readEnvironmentVariable('PERSISTOR_UNITS', '0'))
param schedule = readEnvironmentVariable('PERSISTOR_TIMER', '0 */5 * * * *')
param metadata = bool(readEnvironmentVariable('PERSISTOR_METADATA', 'false'))
