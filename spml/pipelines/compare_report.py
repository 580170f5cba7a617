def write_report(plan, rows, device, **kw): pass
REPORT="report.html"
