"""A dataset as one page to look at: report.html and contact_sheet.png."""
