"""Train, test and measure encodings x pipelines x seeds: from a spec to jobs to their ends."""
