"""config.json -> plan: operations, encoding, describing. Pure functions; nothing here needs root."""
