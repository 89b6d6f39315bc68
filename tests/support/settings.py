"""Settings of the session for some tests, to be `applied`."""

# Few rows under many expressions: one partition, and no code made for each query, which costs more than it saves.
FEW_ROWS = {
    "spark.sql.shuffle.partitions": "1",
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
}
# What `transformWithState` needs: the engine sets it for every run.
ROCKSDB = {
    "spark.sql.streaming.stateStore.providerClass": (
        "org.apache.spark.sql.execution.streaming.state.RocksDBStateStoreProvider"
    ),
}
