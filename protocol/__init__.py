"""Everything that crosses the wire or lands on disk. Needs numpy, msgpack and cryptography, nothing else.

Conventions, used in every folder:

* **Image space**: pixels, x to the right, y down, the origin in the picture's top left corner, pixel (0, 0)
  covers [0, 1) x [0, 1). z in pixels too, growing away from the camera (MediaPipe's sign). Left and right
  are the viewer's, unless a name says `subject_`.
* **Model space**: what a neutral face and the basis are in. The unit is the person's own inter-pupil
  distance in the neutral face; axes as in image space; the origin is the mean of the rigid points.
* **Landmarks**: MediaPipe's 478 (468 face mesh + 2 x 5 iris), float32 [478, 3].
* **Pose**: six numbers, float32 [6]: rotation vector (x, y, z; radians, Rodrigues), natural logarithm of the
  scale relative to the stream's `unit_px`, translation (x, y) of the model origin from the picture's centre in
  units of `unit_px`. A vertex v of model space lands at
  `unit_px * (exp(pose[3]) * (R(pose[:3]) @ v)[:2] + pose[4:6]) + (width / 2, height / 2)`.
* **Ticks**: integer frame counts of a stream; tick n is shown n / tick_rate seconds after tick 0, tick_rate
  being a `Fraction` (frames per second). Wall-clock times are integer microseconds (`_us`).
* **kbps** means kilobits (1000 bits) per second on the wire unless a name says `payload`.
"""
