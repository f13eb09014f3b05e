package functions_test

// comingSettings are named by variants, and not yet known to config.
var comingSettings = []string{"PERSISTOR_SCHEDULE", "PERSISTOR_QUEUE", "PERSISTOR_CONTAINER_NAME", "PERSISTOR_STORAGE_CONNECTION_STRING"}
