"""What is read of the record: the audit chain, its anchors, traces, notices, counts. What they mean is the domain's."""
