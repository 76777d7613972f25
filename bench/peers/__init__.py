"""One adapter per implementation, all with the interface of `bench.peers.base.Peer`."""
