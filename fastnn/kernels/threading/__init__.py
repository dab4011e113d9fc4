"""The threads that share a call, and the barrier where they meet."""
