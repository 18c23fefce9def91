"""Make one HTML page, a Markdown and a CSV file about what was measured of any number of models.

python tools/report.py runs --out report.html
"""

from mmplugins.report.command import main

if __name__ == "__main__":
    main()
