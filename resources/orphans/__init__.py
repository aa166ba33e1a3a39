"""What belongs to nothing any more: adapters of `fleet.ports.orphan_reader`."""
