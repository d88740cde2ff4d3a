// What users call to operate projections.
#pragma once

namespace operate {

// The thresholds of health.
void define_settings();

} // namespace operate
