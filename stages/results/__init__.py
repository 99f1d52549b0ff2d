"""Numbers about models: reading results, tables, statistics, sentences."""
