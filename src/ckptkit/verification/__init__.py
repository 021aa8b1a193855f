"""Is a file whole? Its format's laws, its checksums, index against shards, NaN and infinities, content hashes."""
