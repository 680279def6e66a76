plugins {
    id("com.android.application")
    id("org.jetbrains.kotlin.android")
}

android {
    namespace = "kerasseg.sample"
    compileSdk = 36

    defaultConfig {
        applicationId = "kerasseg.sample"
        minSdk = 24 // as LiteRT
        targetSdk = 36
        versionCode = 1
        versionName = "0.1"
        ndk { abiFilters += listOf("arm64-v8a", "x86_64") }
    }

    // A model is mapped from the package as it is.
    androidResources { noCompress += "tflite" }

    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_11
        targetCompatibility = JavaVersion.VERSION_11
    }
    kotlinOptions { jvmTarget = "11" }
}

dependencies {
    implementation("com.google.ai.edge.litert:litert:2.3.0")
    // Without it CompiledModel refuses Accelerator.GPU, and the app stays on the CPU.
    implementation("com.google.ai.edge.litert:litert-gpu:2.3.0")
}
