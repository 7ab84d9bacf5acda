"""What `concordat publish` wrote, read by programs that are not ours: tables by csvw, the catalogue by rdflib. `published.py SITE`."""

import pathlib
import shutil
import sys
import tempfile

import csvw
import rdflib
from rdflib.namespace import DCAT, DCTERMS, FOAF, RDF

BASE = "https://published.example/"
SITE = pathlib.Path(sys.argv[1]).resolve()


def check(metadata):
    """Why a table is not as its metadata says; nothing where it is."""
    try:
        read = csvw.CSVW(str(metadata), validate=True)
        return [] if read.is_valid else [str(warning.message) for warning in read.warnings] or ["invalid"]
    except ValueError as error:
        return [str(error)]


def table_of(metadata):
    return metadata.with_name(metadata.name.removesuffix("-metadata.json"))


described = sorted(SITE.rglob("*.csv-metadata.json"))
assert {table_of(one) for one in described} == set(SITE.rglob("*.csv")) and described, "a table without metadata, or the other way round"
for metadata in described:
    assert check(metadata) == [], (metadata, check(metadata))
    with tempfile.TemporaryDirectory() as folder:
        # A check that finds nothing in a spoiled table would find nothing in ours.
        spoiled = pathlib.Path(shutil.copytree(metadata.parent, pathlib.Path(folder) / "spoiled")) / metadata.name
        titles, first, *others = table_of(spoiled).read_bytes().decode().split("\r\n")
        if first:
            shifted = first.replace(",", ',",",', 1)
            table_of(spoiled).write_bytes("\r\n".join([titles, shifted, *others]).encode())
            assert check(spoiled) != [], f"a row whose cells are shifted passes in {metadata}"

graph = rdflib.Graph().parse(SITE / "catalog.jsonld", format="json-ld", publicID=BASE)
(catalogue,) = graph.subjects(RDF.type, DCAT.Catalog)
datasets = set(graph.objects(catalogue, DCAT.dataset))
assert datasets == set(graph.subjects(RDF.type, DCAT.Dataset)) and datasets, "datasets that the catalogue does not list"
assert list(graph.objects(catalogue, DCTERMS.title))
for dataset in datasets:
    for said in (DCTERMS.title, DCTERMS.description, DCTERMS.identifier, DCTERMS.modified, DCTERMS.accrualPeriodicity):
        assert len(list(graph.objects(dataset, said))) == 1, (dataset, said)
    assert all(list(graph.objects(publisher, FOAF.name)) for publisher in graph.objects(dataset, DCTERMS.publisher))
    distributions = list(graph.objects(dataset, DCAT.distribution))
    assert len(distributions) == 2, dataset
    for distribution in distributions:
        (address,) = graph.objects(distribution, DCAT.downloadURL)
        assert (SITE / str(address).removeprefix(BASE)).is_file(), address
        (media,) = graph.objects(distribution, DCAT.mediaType)
        assert str(media).startswith("https://www.iana.org/assignments/media-types/"), media
print(f"{len(described)} tables, {len(datasets)} datasets")
