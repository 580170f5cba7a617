"""Reads XML of annotations, and nothing that such files never hold."""

from pathlib import Path
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from spml.data.samples import DataError


def read_xml(path: str | Path) -> Element:
    """The root of an XML file.

    Raises: DataError for other files, and for a document type: entities may stand for other files, or for a billion
        words, and no format of annotations has any.
    """
    parser, builder = expat.ParserCreate(), TreeBuilder()

    def refuse(*_: object) -> None:
        raise DataError(f"{path}: expected XML without a document type (<!DOCTYPE ..>) and entities")

    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    parser.buffer_text = True
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    try:
        parser.Parse(Path(path).read_bytes(), True)
        return builder.close()
    except (OSError, expat.ExpatError, ValueError, LookupError, AssertionError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise DataError(f"cannot read {path} as XML: {reason}") from error
