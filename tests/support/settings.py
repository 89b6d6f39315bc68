"""Settings of the session for some tests, to be `applied`."""

# No code made for each query: with the rows of a test that costs more than it saves.
NO_CODEGEN = {"spark.sql.codegen.wholeStage": "false", "spark.sql.codegen.factoryMode": "NO_CODEGEN"}
# As a run has it.
CODEGEN = {"spark.sql.codegen.wholeStage": "true", "spark.sql.codegen.factoryMode": "FALLBACK"}
# Few rows under many expressions.
FEW_ROWS = {"spark.sql.shuffle.partitions": "1", **NO_CODEGEN}
# What `transformWithState` needs: the engine sets it for every run.
ROCKSDB = {
    "spark.sql.streaming.stateStore.providerClass": (
        "org.apache.spark.sql.execution.streaming.state.RocksDBStateStoreProvider"
    ),
}
