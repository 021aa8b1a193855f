"""Folders of torch.distributed.checkpoint (DCP): ``.metadata`` and the files that its ranks wrote."""
