"""The local runtime: Java, jars, a Spark JVM and a Kafka broker."""
