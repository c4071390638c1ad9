"""The sender: camera or file -> landmarks -> coefficients -> messages; enrolment. Never imports mien.decoder."""
