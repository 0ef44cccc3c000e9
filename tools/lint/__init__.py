"""The project's own lints: rules that ruff, mypy and import-linter cannot express.

Each rule says why it exists and can be escaped on the line it points at, with a reason:

    def ladder(...):  # lint: allow(function-length) the guards are read in order, as one ladder

An escape without a reason is itself a finding. Rules that a general linter has do not belong here.
"""

from tools.lint.runner import Finding, check_file, check_tree

__all__ = ["Finding", "check_file", "check_tree"]
