"""The meeting: signalling, peer connection, carriers, the fallback ladder, the wire meter. Only here: aiortc, websockets."""
