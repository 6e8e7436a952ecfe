// The fault that is ordered (faults.py), of the core that has faults.
#pragma once

#include <string>
#include <string_view>

bool left_out(std::string_view fault);

// From now on; empty: none.
void leave_out(const std::string& fault);
