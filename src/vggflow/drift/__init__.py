"""Does the champion still fit what it is asked about: what is kept of its answers, and what they are compared with."""
