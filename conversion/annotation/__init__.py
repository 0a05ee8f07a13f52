"""Points made by people (Point-VOS, Sec. 3.2): candidates are proposed, verified one by one, and become points."""
