"""From bytes on disk to a batch on the devices."""
