"""The studio: strokes in a browser, the folder labelled. `spml studio FOLDER` opens it."""
