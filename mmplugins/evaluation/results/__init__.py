"""From measures to rows, files, comparisons and figures."""
