// Mixes the references by their weights (a reference of no weight is not sampled), and darkens an open mouth that
// none of them shows.

uniform sampler2DArray u_references;
uniform vec3 u_cavity;  // sRGB, 0 to 1

in float v_cavity;
in vec4 v_weight_0, v_weight_1;
in vec4 v_uv_01, v_uv_23, v_uv_45, v_uv_67;

out vec4 f_colour;

// Where a reference ends, it goes on as its own mirror image, ever slower: a strip of wall or cloth looks right
// where a streak does not, and no mirrored head comes in from above.
const float STRIP = 0.05;  // of the picture

vec2 within(vec2 uv) {
    vec2 under = max(-uv, 0.0), over = max(uv - 1.0, 0.0);
    return clamp(uv, 0.0, 1.0) + STRIP * under / (STRIP + under) - STRIP * over / (STRIP + over);
}

vec4 painted(float weight, vec2 uv, float layer) {
    if (weight <= 0.0) return vec4(0.0);
    return weight * vec4(textureLod(u_references, vec3(within(uv), layer), 0.0).rgb, 1.0);
}

void main() {
    vec4 sum = painted(v_weight_0.x, v_uv_01.xy, 0.0) + painted(v_weight_0.y, v_uv_01.zw, 1.0)
             + painted(v_weight_0.z, v_uv_23.xy, 2.0) + painted(v_weight_0.w, v_uv_23.zw, 3.0)
             + painted(v_weight_1.x, v_uv_45.xy, 4.0) + painted(v_weight_1.y, v_uv_45.zw, 5.0)
             + painted(v_weight_1.z, v_uv_67.xy, 6.0) + painted(v_weight_1.w, v_uv_67.zw, 7.0);
    f_colour = vec4(mix(sum.rgb / max(sum.a, 0.001), u_cavity, v_cavity), 1.0);
}
