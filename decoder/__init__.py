"""The receiver: messages -> playout -> warp -> compositor -> window or file. Never imports mien.encoder."""
