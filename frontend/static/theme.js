// Applies the chosen colours before the first paint. Without a choice, the system's preference applies.
try {
  const theme = localStorage.getItem("dalle.theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch {
  // No storage, no choice.
}
