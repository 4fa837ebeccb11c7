// The page at `/`: live_page.html, which asks this daemon and nobody else.
#pragma once

namespace pcache {

extern const char* const kLivePage;

}  // namespace pcache
