"""How events become trusted tables: bronze, silver with its quarantine, and gold, each a streaming query."""
