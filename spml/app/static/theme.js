// Runs before the page is drawn, so that a dark page never flashes white.
"use strict";
try {
  const kept = JSON.parse(localStorage.getItem("spml-studio") || "{}");
  if (kept.theme) document.documentElement.dataset.theme = kept.theme;
} catch {
  // A browser that keeps nothing follows the system's light or dark.
}
