"""End to end: the real command, real servers, a real nginx, in roots of their own under /tmp."""
