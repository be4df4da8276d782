"""Configuration of the documentation; ``make doc`` builds it, without a network."""

import html
import sys
from pathlib import Path

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.util import logging
from sphinx.util.nodes import make_refnode

from sklearn_autorec import __version__

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from fold_changelog import section, with_section  # noqa: E402
from inventories import write_inventories  # noqa: E402

LOGGER = logging.getLogger(__name__)

project = "sklearn_autorec"
author = "the sklearn_autorec developers"
project_copyright = author
release = version = __version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.viewcode",
    "numpydoc",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "_templates", "changelog.d", "generated/gallery/*.ipynb"]
templates_path = ["_templates"]
default_role = "py:obj"
# Links to other projects come from inventories that are made here; names that these lack stay text.
intersphinx_mapping = write_inventories(HERE / "_build" / "inventories")
nitpick_ignore_regex = [("py:.*", r"(numpy|pandas|scipy|sklearn|skorch|torch)\..*")]

# Examples as pages: each file of examples/gallery runs when the pages are built.
sphinx_gallery_conf = {
    "examples_dirs": str(HERE.parent / "examples" / "gallery"),
    "gallery_dirs": "generated/gallery",
    "filename_pattern": r"/plot_",
    "backreferences_dir": "generated/backreferences",
    "doc_module": ("sklearn_autorec",),
    "download_all_examples": False,
    "remove_config_comments": True,
    "min_reported_time": 60,
    "abort_on_example_error": True,
    "plot_gallery": "True",
    "within_subsection_order": "FileNameSortKey",
    "show_memory": False,
    "matplotlib_animations": False,
}
copybutton_prompt_text = r">>> |\.\.\. |\$ "  # what is copied runs as it is
copybutton_prompt_is_regexp = True

autodoc_typehints = "none"
toc_object_entries_show_parents = "hide"
autodoc_inherit_docstrings = False  # what a class does not document itself, its base class does
autosummary_ignore_module_all = False
numpydoc_show_class_members = False

html_theme = "pydata_sphinx_theme"
html_title = project
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_sidebars = {  # pages without a chapter of their own need no chapter navigation
    page: []
    for page in (
        "index",
        "install",
        "tutorial",
        "which",
        "costs",
        "wishes",
        "methods",
        "benchmarks",
        "developing",
        "authors_guide",
        "reliability",
        "mutation",
        "changelog",
    )
}
html_theme_options = {
    "header_links_before_dropdown": 8,
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
    "navbar_persistent": ["search-button"],
    "navbar_end": ["theme-switcher"],
    "footer_start": ["copyright"],
    "footer_end": [],
}
html_math_renderer = "mathml"


def insert_changelog(app, docname, source):
    """Show the fragments of ``changelog.d`` as what is not yet released."""
    if docname == "changelog":
        source[0] = with_section(source[0], section("Not yet released", HERE / "changelog.d"))


def skip_what_sklearn_wrote(app, what, name, obj, skip, options):
    """Leave out methods that scikit-learn adds, such as ``set_output`` and ``set_fit_request``."""
    obj = getattr(obj, "fget", obj)  # the function behind a property
    request = name.startswith("set_") and name.endswith("_request")
    added = not isinstance(obj, type) and str(getattr(obj, "__module__", "")).startswith("sklearn.")
    return True if request or added else None


def resolve_short_name(app, env, node, contnode):
    """Let docstrings say `FieldEncoder` for the one documented object that ends so."""
    if node.get("refdomain") != "py":
        return None
    target = node["reftarget"]
    objects = env.get_domain("py").objects
    found = [
        name for name, entry in objects.items() if name.endswith("." + target) and not entry.aliased
    ]
    if len(found) != 1:
        return None
    entry = objects[found[0]]
    return make_refnode(
        app.builder, node["refdoc"], entry.docname, entry.node_id, contnode, found[0]
    )


def write_math(self, node):
    """MathML instead of MathJax: formulas need neither a network nor a script."""
    block = isinstance(node, nodes.math_block)
    try:
        formula = tex2mathml(node.astext(), as_block=block)
    except MathError as error:
        LOGGER.warning("%s in %s", error, node.astext(), location=node)
        formula = f"<code>{html.escape(node.astext())}</code>"
    self.body.append(f'<div class="formula">{formula}</div>' if block else formula)
    raise nodes.SkipNode


def setup(app):
    app.add_html_math_renderer("mathml", (write_math, None), (write_math, None))
    app.connect("source-read", insert_changelog)
    app.connect("autodoc-skip-member", skip_what_sklearn_wrote)
    app.connect("missing-reference", resolve_short_name)
