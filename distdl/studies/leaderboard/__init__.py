"""Study `leaderboard`: document 000's three attempts, each a board that any number of processes work on."""
