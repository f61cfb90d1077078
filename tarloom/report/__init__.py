"""A dataset as one page to look at: report.html and contact_sheet.png."""

from tarloom.report.config import ReportConfig, ReportSummary

__all__ = ["ReportConfig", "ReportSummary", "build_report"]


def build_report(config: ReportConfig) -> ReportSummary:
    """Write report.html and contact_sheet.png. Raises UsageError for a bad option or where there is no dataset."""
    from tarloom.report.build import build

    return build(config)
