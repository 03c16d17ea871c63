"""What `check` and `next` find, on real photos with faults that are known."""
