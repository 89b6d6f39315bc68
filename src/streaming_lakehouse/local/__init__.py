"""What stands in for the cloud on a laptop: a Java runtime, jars, a Kafka broker."""
