"""The site agent: one process at a hospital that takes jobs, decides, pays and computes."""
