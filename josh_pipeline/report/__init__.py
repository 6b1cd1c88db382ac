"""What people look at: score table, figures, the HTML report and the drawn search tree."""
