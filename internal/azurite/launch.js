// Runs the script named by the first argument, and ends it when standard input ends: that happens
// when the parent closes it, and also when the parent is killed.
process.stdin.on("end", () => {
  process.emit("SIGTERM"); // Azurite's own way to save what it keeps and close
  setTimeout(() => process.exit(0), 3000).unref();
});
process.stdin.resume();
require(process.argv[1]);
