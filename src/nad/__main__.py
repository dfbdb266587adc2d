from nad.cli import main

main()
